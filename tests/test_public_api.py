"""What `import layercast` promises. A name that is added or removed here is a change of the public API."""

import subprocess
import sys
from pathlib import Path

import pytest

import layercast

NAMES = [
    "BlockingReceiver",
    "BlockingSender",
    "Codec",
    "EncodedFrame",
    "FrameHeader",
    "FrameKind",
    "LayerInfo",
    "LayercastError",
    "PictureInfo",
    "ReceivedFrame",
    "Receiver",
    "Relay",
    "RelayLimits",
    "Sender",
    "StreamDescription",
    "__version__",
    "codec_names",
    "get_codec",
    "register",
]

MEDIA_NAMES = [
    "ArraySink",
    "ArraySource",
    "CallbackSink",
    "CameraSource",
    "FolderSink",
    "FolderSource",
    "Frame",
    "Image",
    "Looped",
    "Paced",
    "PatternSource",
    "PictureSink",
    "PictureSource",
    "Sink",
    "Source",
    "VideoSink",
    "VideoSource",
    "open_sink",
    "open_source",
    "read_picture",
    "write_picture",
]


def test_the_exported_names_are_these():
    assert sorted(layercast.__all__) == sorted(NAMES)
    assert dir(layercast) == layercast.__all__


@pytest.mark.parametrize("name", NAMES)
def test_every_exported_name_is_there(name):
    assert getattr(layercast, name) is not None


def test_the_media_names_are_these():
    import layercast.media

    assert sorted(layercast.media.__all__) == sorted(MEDIA_NAMES)
    assert all(hasattr(layercast.media, name) for name in MEDIA_NAMES)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = layercast.nothing


def test_importing_the_package_imports_nothing_else():
    program = "import sys, layercast; print(*sorted({'numpy', 'grpc', 'PIL', 'asyncio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_error_has_its_own_code_and_a_documented_exit_code():
    import layercast.errors as errors

    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.LayercastError)
    ]
    assert len({kind.code for kind in kinds}) == len(kinds) > 15
    documented = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
    assert all(f"| {kind.exit_code} |" in documented for kind in kinds)


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert version("layercast") == layercast.__version__
