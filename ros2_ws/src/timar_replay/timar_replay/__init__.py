"""Records rosbag2 files, reads them back, sums them up and draws them."""
