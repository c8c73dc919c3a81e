"""fewscan's own formats keep the contract of scan formats."""

from __future__ import annotations

from fewscan.io.metaimage import MetaImage
from fewscan.io.nifti import Nifti
from fewscan.io.nrrd import Nrrd
from fewscan.io.png import Png
from fewscan.io.tiff import Tiff
from fewscan.testing.formats import FormatContract


class TestNifti(FormatContract):
    scan_format = Nifti


class TestNrrd(FormatContract):
    scan_format = Nrrd


class TestMetaImage(FormatContract):
    scan_format = MetaImage


class TestPng(FormatContract):
    scan_format = Png


class TestTiff(FormatContract):
    scan_format = Tiff
