"""Face tracking: the user's head pose, jaw and expression from camera images, on the conversation clock."""
