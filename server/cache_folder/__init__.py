"""The prefix cache on disk, which survives restarts.

Each block of state is a file. Several servers can share the files.
"""
