"""The project's own kernels (kernels/, in C): their library, and graphs whose operators run on them."""
