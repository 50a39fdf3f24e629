"""How far a run of the suite has come: a file in the work folder that names the run and the parts
that are done, so that a suite which was ended half way can go on.

A run is one program on one machine asked for one thing. Its name is in each record, and a run is
not gone on with by another program, on another machine or with other options: records of different
runs are then told apart on the page, never mixed unseen.
"""

import datetime
import json

import records


class NothingToResume(Exception):
    """There is no run to go on with; says why."""


class Progress:
    def __init__(self, path, state):
        self.path, self.state = path, state
        self.run, self.machine, self.commit = state["run"], state["machine"], state["commit"]
        self.spent_seconds = state["spent_seconds"]

    @classmethod
    def begin(cls, path, asked):
        now = datetime.datetime.now(datetime.timezone.utc)
        if path.exists():
            left = json.loads(path.read_text(encoding="utf-8"))
            print(f"the run of {left['run']} was never finished; beginning a new one "
                  "(--resume would have gone on)", flush=True)
        made = cls(path, {**identity(path), "run": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                          "asked": asked, "spent_seconds": 0, "done": []})
        made.save()
        return made

    @classmethod
    def resume(cls, path, asked):
        if not path.exists():
            raise NothingToResume(f"no run was ended half way: {path} is not there")
        state = json.loads(path.read_text(encoding="utf-8"))
        now = {**identity(path), "asked": json.loads(json.dumps(asked))}
        for what, value in now.items():
            if state[what] != value:
                raise NothingToResume(
                    f"the run of {state['run']} cannot go on, since its {what} was another: "
                    f"{state[what]}, now {value}; begin a new one without --resume")
        return cls(path, state)

    def has(self, name, engine):
        return [name, engine] in self.state["done"]

    def add(self, name, engine, spent_seconds):
        self.state["done"].append([name, engine])
        self.state["spent_seconds"] = spent_seconds
        self.save()

    def save(self):
        """By a rename, so that the file is whole whenever the suite is ended."""
        beside = self.path.with_suffix(".tmp")
        beside.write_text(json.dumps(self.state), encoding="utf-8")
        beside.replace(self.path)

    def finish(self):
        self.path.unlink()


def identity(path):
    return {"commit": records.commit(), "machine": records.describe_machine(path.parent)}
