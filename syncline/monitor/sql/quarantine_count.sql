SELECT count(*) FROM sync.quarantine WHERE flow = %(flow)s AND state = 'open'
