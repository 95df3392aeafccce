"""Reads, writes, records, plays, repairs and checks rosbag2 files."""
