-- One role a service, of the service's own name; the customers have an owner and three writers. Every database knows all of them, also where it hosts
-- only one service, because it lets the others read. A role that exists is left as it is: a user's own
-- may have a login and a password.
DO $$
DECLARE
    service text;
BEGIN
    -- Two installs at once take turns; in another database of the same server the exception below serves.
    PERFORM pg_advisory_xact_lock(hashtext('syncline services'));
    FOREACH service IN ARRAY ARRAY[
        'catalog', 'pricing', 'warehouse', 'customers', 'storefront', 'crm', 'support'
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = service) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', service);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        -- An installer that is no superuser must be able to act as the role.
        IF NOT pg_has_role(current_user, service, 'USAGE') THEN
            EXECUTE format('GRANT %I TO %I', service, current_user);
        END IF;
    END LOOP;
END
$$;
