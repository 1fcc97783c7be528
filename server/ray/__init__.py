"""The Ray Serve application: an ingress chooses among replicas of the server."""
