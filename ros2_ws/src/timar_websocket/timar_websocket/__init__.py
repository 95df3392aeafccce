"""The head on a WebSocket: server, client and their messages (docs/websocket.md)."""
