"""What runs leave behind: pictures, clips, records; each file appears whole or not at all."""
