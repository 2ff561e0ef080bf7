"""Metadata of the package; the tools' configuration is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

REQUIREMENTS = [
    "nnunetv2>=2.8,<2.9",
    "torch",
    "dynamic-network-architectures",
    "batchgenerators",
    "batchgeneratorsv2",
    "SimpleITK",
    "nibabel",
    "acvl-utils",
    "connected-components-3d",
    "pandas",
    "numpy",
    "packaging",
    "safetensors",
    "scipy",
    "scikit-learn",
    "tqdm",
    "adjustText",
    "matplotlib",
    "isal",
    "joblib",
]

EXTRAS = {
    "peers": ["monai>=1.5"],
    "tensorboard": ["tensorboard"],
    "sweep": ["ray>=2.50", "submitit>=1.5", "PyYAML", "rich", "filelock"],
    "report": [
        "statsmodels>=0.15",
        "scikit-posthocs>=0.17",
        "scikit-image",
        "fast-simplification",
        "plotly>=7",
        "slicerio>=1.4",
    ],
    "test": [
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "hypothesis",
        "ruff",
        "mypy",
        "pandas-stubs",
        "timm>=1.0",
        "torchvision",
        "pytorchcv",
        "monai>=1.5",
        "medpy",
        "surface-distance",
        "slicerio",
        "wheel",
        "tensorboard",
        "statsmodels>=0.15",
        "scikit-posthocs>=0.17",
        "scikit-image",
        "fast-simplification",
        "plotly>=7",
        "playwright",
        "pillow",
        "ray>=2.50",
        "submitit>=1.5",
        "PyYAML",
        "types-PyYAML",
        "rich",
        "captum",
        "grad-cam",
        "lifelines",
    ],
}


def version() -> str:
    """The version, read from the package without importing it."""
    text = (HERE / "nnunet_ext" / "__init__.py").read_text(encoding="utf-8")
    return text.split('__version__ = "')[1].split('"')[0]


def main() -> None:
    """Called by the build front end; importing this file does nothing."""
    setup(
        name="nnunet_ext",
        version=version(),
        description="Light multi-branch networks, a ROI cascade and honest cost tables for nnU-Net v2 on BraTS",
        long_description=(HERE / "README.md").read_text(encoding="utf-8"),
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        python_requires=">=3.11,<3.14",
        packages=find_packages(include=["nnunet_ext", "nnunet_ext.*"]),
        package_data={
            "nnunet_ext": ["py.typed", "**/*.json", "discovery/hook/*.py", "evaluation/page/*", "outcomes/page/*"]
        },
        install_requires=REQUIREMENTS,
        extras_require=EXTRAS,
        entry_points={
            "console_scripts": [
                "nnunet_ext=nnunet_ext.cli:main",
                "nnUNetv2_predict_cascade=nnunet_ext.commands.predict_cascade:main",
            ]
        },
    )


if __name__ == "__main__":
    main()
