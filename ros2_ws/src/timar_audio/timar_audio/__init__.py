"""Audio of the head: capture, playback, voice activity detection and turn taking."""
