"""What is put under load: our system and its rivals, each in processes of its own."""
