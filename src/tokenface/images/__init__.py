"""Photo input: loading, face detection, focal length."""

from tokenface.geometry.crop import Crop, crop_from_box, crop_from_landmarks, extract
from tokenface.images.detection import Detection
from tokenface.images.detector import FaceDetector
from tokenface.images.loading import ImageItem, collect_images, load_image

__all__ = [
    "Crop",
    "Detection",
    "FaceDetector",
    "ImageItem",
    "collect_images",
    "crop_from_box",
    "crop_from_landmarks",
    "extract",
    "load_image",
]
