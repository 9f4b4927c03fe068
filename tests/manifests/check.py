"""Builds every manifest that an operator can apply, and judges what comes out.

    check.py KUBECTL REPOSITORY

Runs in the environment of requirements.txt. Exit code 0 only when all holds; else each fault is
said with the manifest, the object and the field.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import jsonschema
import yaml

HERE = pathlib.Path(__file__).parent
BIN = pathlib.Path(sys.executable).parent
# The oldest with native sidecars, and the newest that a real API server of was seen.
VERSIONS = ("1.29", "1.36")
# Kinds of others, whose schemas no validator here has. `pillion check` judges HTTPRoutes.
FOREIGN = {"HTTPRoute", "GRPCRoute", "PodMonitor", "Certificate", "Issuer"}


def main(kubectl, root):
    deploy = pathlib.Path(root) / "deploy"
    with tempfile.TemporaryDirectory() as place:
        built = build_all(kubectl, deploy, pathlib.Path(place))
        schemas = own_schemas(deploy)
        faults = [fault for file in built for fault in judge(file, schemas)]
        faults += self_test(pathlib.Path(place), schemas) + checkov(built)
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(built)} manifests, {len(schemas)} kinds of our own, {len(faults)} faults")
    return 1 if faults or not built else 0


def build_all(kubectl, deploy, place):
    """Every overlay, example and the dashboards as they are; every component on the base."""
    sources = sorted(path.parent for pattern in ("overlays/*/", "examples/*/", "dashboards/")
                     for path in deploy.glob(pattern + "kustomization.yaml"))
    sources += [on_base(deploy, component, place) for component in sorted((deploy / "components").iterdir())]
    return [build(kubectl, source, place / f"{source.parent.name}-{source.name}.yaml") for source in sources]


def on_base(deploy, component, place):
    """A kustomization of the base with this component alone."""
    directory = place / "component" / component.name
    directory.mkdir(parents=True)
    relative = {name: os.path.relpath(deploy / name, directory.resolve()) for name in ("base", "components")}
    (directory / "kustomization.yaml").write_text(yaml.safe_dump({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [relative["base"]],
        "components": [f"{relative['components']}/{component.name}"],
    }))
    return directory


def build(kubectl, source, target):
    run = subprocess.run([kubectl, "kustomize", source], capture_output=True, text=True)
    if run.returncode != 0 or run.stderr:
        sys.exit(f"kubectl kustomize {source}: {run.stdout}{run.stderr}")
    target.write_text(run.stdout)
    return target


def objects(file):
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def name(thing):
    metadata = thing["metadata"]
    return f"{thing['kind']} {metadata.get('namespace', '')}/{metadata['name']}"


def own_schemas(deploy):
    """The schema of each kind and version of our own, by (apiVersion, kind)."""
    found = {}
    for file in sorted((deploy / "base" / "crds").glob("*.yaml")):
        for crd in (thing for thing in objects(file) if thing["kind"] == "CustomResourceDefinition"):
            for version in crd["spec"]["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                jsonschema.Draft202012Validator.check_schema(schema)
                key = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
                found[key] = schema
    if not found:
        sys.exit(f"no CustomResourceDefinition in {deploy / 'base' / 'crds'}: objects of our own kinds go unjudged")
    return found


def closed(schema, top=True):
    """The schema as a strict API server applies it: a field that it does not name is a fault."""
    schema = dict(schema)
    if "properties" in schema:
        fields = {key: closed(value, False) for key, value in schema["properties"].items()}
        if top:
            fields |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
        schema["properties"] = fields
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    if isinstance(schema.get("items"), dict):
        schema["items"] = closed(schema["items"], False)
    return schema


def judge(file, schemas):
    faults = [f"{file.stem}: Kubernetes {version}: {line}"
              for version in VERSIONS for line in kubernetes_validate(file, version, schemas)]
    for thing in objects(file):
        schema = schemas.get((thing["apiVersion"], thing["kind"]))
        if schema:
            for error in jsonschema.Draft202012Validator(schema).iter_errors(thing):
                faults.append(f"{file.stem}: {name(thing)}: {error.json_path}: {error.message}")
    return faults


def kubernetes_validate(file, version, schemas):
    """What the schemas of this version say against it. A kind without a schema is a fault as well."""
    command = [BIN / "kubernetes-validate", "-k", version, "--strict", file]
    run = subprocess.run(command, capture_output=True, text=True)
    known = FOREIGN | {kind for _, kind in schemas}
    faults = []
    for line in (run.stdout + run.stderr).splitlines():
        words = line.split()
        unknown = words[words.index("kind") + 1] if "find schema for kind" in line else None
        if unknown not in known and not line.startswith("INFO"):
            faults.append(line)
    if run.returncode != 0 and not faults:
        faults.append(f"exit code {run.returncode}")
    return faults


def self_test(place, schemas):
    """The validator itself must see a field that nobody knows, in any document of a file."""
    file = place / "self-test.yaml"
    good = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "good"}}
    bad = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"},
           "spec": {"containers": [{"name": "a"}], "securityContext": {"runAsUsr": 1}}}
    file.write_text(yaml.safe_dump_all([good, bad, good]))
    return [f"kubernetes-validate overlooks a wrong field ({version})"
            for version in VERSIONS
            if not any("runAsUsr" in line for line in kubernetes_validate(file, version, schemas))]


def checkov(built):
    command = [sys.executable, BIN / "checkov", "--config-file", HERE / "checkov.yaml"]
    command += [part for file in built for part in ("--file", file)]
    run = subprocess.run(command, capture_output=True, text=True)
    said = (run.stdout + run.stderr).strip()
    if "Passed checks: " not in said:
        return [f"checkov did not judge: {said}"]
    return [] if run.returncode == 0 else [f"checkov: {said}"]


sys.exit(main(*sys.argv[1:]))
