"""Ears and voice of the head: capture, playback, voice activity and speech turns."""
