"""A folder of pictures or clips with captions, as trainings read it."""
