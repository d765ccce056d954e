ALTER TABLE outbox DISABLE TRIGGER outbox_notify;
