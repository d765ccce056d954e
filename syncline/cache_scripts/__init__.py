"""What runs inside Redis, for ``syncline/reads.py``."""
