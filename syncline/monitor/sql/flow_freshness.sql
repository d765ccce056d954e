-- Up to when the copy has all of each owner.
SELECT owner, as_of FROM sync.freshness WHERE flow = %(flow)s ORDER BY owner
