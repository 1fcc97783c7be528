"""Request fields and response types that chat and text completions share."""
