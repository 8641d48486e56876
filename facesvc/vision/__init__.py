"""Pixels to vectors: arrays in, frozen records out, no files, no sockets, no clock of its own.

Read in the order of the work: ``decode`` (bytes to pixels), ``detection`` (what a detector returns) and
``detect_mtcnn`` (one file a family), ``align`` (a face upright), ``quality`` (fit for recognition?), ``embed`` (a
vector of unit length), ``pipeline`` (all of it in a line). ``geometry`` holds boxes, ``scores`` what similarities are
worth. Networks come in as callables; where they come from is the business of ``facesvc.models``.

Pictures are (H, W, 3) uint8 RGB, contiguous. Points and boxes are pixels, x to the right, y down.
"""
