"""Eyes of the head: the user's face in a camera's pictures becomes motion on the conversation clock."""
