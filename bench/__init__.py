"""What Syncline costs and how fast it is, measured on real servers: ``syncline bench FLOW``.

One subject a file: ``drain``, ``latency`` and so on each measure one thing and say what it leaves out;
the others are what they share. ``catalog_search`` lists the measurements of that flow and their sizes.
"""
