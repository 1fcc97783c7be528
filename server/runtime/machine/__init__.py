"""What the machine offers: cores, memory, CPU features, the heap."""
