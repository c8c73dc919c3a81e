"""fewscan: medical image segmentation from few labelled scans."""
