"""What tests share: drawn networks, problems, models, files."""
