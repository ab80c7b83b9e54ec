"""From a trained model to a label map on the scan's own grid."""
