"""The Ray Serve application: an ingress that chooses replicas, and replicas that run the server."""
