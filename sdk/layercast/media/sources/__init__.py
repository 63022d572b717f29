"""Where frames come from, one kind per file."""
