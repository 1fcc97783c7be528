"""The prefix cache on disk: blocks of state in files that survive restarts and that servers share."""
