"""Records rosbag2 files, reads them back, scores and draws them."""
