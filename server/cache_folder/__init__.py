"""The prefix cache on disk.

It survives restarts. Each block of state is a file. Several servers can share the files.
"""
