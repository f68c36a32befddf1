"""Folders of runs read back, as tables and as one page."""
