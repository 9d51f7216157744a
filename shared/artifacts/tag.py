"""The key of the run record in files that hold texts by keys. Containers with one comment keep it there."""

TAG = "kinoform"
