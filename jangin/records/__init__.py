"""Master records: the data set folder of a site, its checks, its hold-out, and the npz form of research sets."""
