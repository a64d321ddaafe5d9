"""Run by `test_labs`: an nbgrader course in the current folder; prints points per student, lab and cell as JSON."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path

from nbgrader.apps import NbGraderAPI
from traitlets.config import Config

warnings.simplefilter("ignore")  # SQLAlchemy's notes to nbgrader
logging.disable(logging.WARNING)
config = Config()
config.CourseDirectory.root = str(Path.cwd())
config.CourseDirectory.course_id = "labs"
config.ExecutePreprocessor.timeout = 120
api = NbGraderAPI(config=config)
points: dict[str, dict[str, dict[str, float]]] = {}
for lab in sys.argv[1:]:
    made = api.generate_assignment(lab)
    assert made["success"], made
    for folder in sorted(Path("submitted").glob(f"*/{lab}")):
        done = api.autograde(lab, folder.parent.name)
        assert done["success"], done
        found = api.gradebook.find_submission(lab, folder.parent.name)
        marks = {grade.cell.name: grade.score for notebook in found.notebooks for grade in notebook.grades}
        points.setdefault(folder.parent.name, {})[lab] = marks
json.dump(points, sys.stdout)
