"""DICOM series in, DICOM segmentations in and out, by pydicom and highdicom: the extra `fewscan[dicom]`."""
