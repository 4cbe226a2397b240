"""From a plan to working workers: their number, their instructions, and their loaded model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from data_jobs.labelling.attempts import Earlier, Run
from data_jobs.labelling.config import LabelDatasetConfig
from data_jobs.labelling.cost import CostLimit
from data_jobs.labelling.estimate import load as load_estimate
from data_jobs.labelling.guard import Guard
from data_jobs.labelling.manifests import Manifest
from data_jobs.labelling.model_spec import ModelFacts, ModelSpec
from data_jobs.labelling.pipeline import Tell, inspect_model, label_pending
from data_jobs.labelling.run_configuration import run_configuration
from data_jobs.labelling.totals import Totals
from data_jobs.runtime.actors import Actors, Footprint, plan_actors
from data_jobs.runtime.machines import Machines
from data_jobs.runtime.node_types import nodes_of_the_launcher
from data_jobs.runtime.scheduling import check_schedulable, parse_labels
from data_jobs.runtime.waiting import waiting
from everymask.backbone.devices import device_for
from everymask.backbone.models import find_model
from everymask.classes.shipped import settled_head
from everymask.files.storage import canonical_uri
from everymask.labels.store import LabelStore, PartSummary
from everymask.wording import counted


@dataclass(frozen=True)
class Crew:
    """The workers of a run.

    Attributes:
        spec: their instructions.
        actors: their number and resources.
    """

    spec: ModelSpec
    actors: Actors

    @classmethod
    def plan(cls, config: LabelDatasetConfig) -> Crew:
        """Fit them into the running cluster. Raises as `plan_actors`."""
        model, labels = config.model.model, parse_labels(config.node_labels)
        actors = plan_actors(config.workers.actors, config.workers.gpus_per_actor, Footprint.of_model(model), labels)
        spec = ModelSpec(
            model,
            config.model.checkpoint and canonical_uri(config.model.checkpoint),
            config.head and settled_head(config.head),
            device_for(config.model.device, actors.gpus),
            config.label_config(),
            config.limits,
            actors.threads,
            config.save_embeddings and canonical_uri(config.save_embeddings),
            precision=config.model.precision,
        )
        return cls(spec, actors)

    def __str__(self) -> str:
        """`nano (entities), 2 workers on the CPU`."""
        actors = self.actors
        least = f"{actors.minimum} to " if actors.maximum > actors.minimum else ""
        place = f"{actors.gpus:g} GPU each" if actors.gpus else "on the CPU"
        return f"{self.spec.model} ({self.spec.config.method}), {least}{counted(actors.maximum, 'worker')} {place}"

    def start(self, config: LabelDatasetConfig, store: LabelStore, earlier: Earlier) -> Started:
        """Load the model on a worker, and record a new attempt of `everymask label`.

        Called once the listing has something to label: a GPU machine that came earlier would wait idle.

        Raises:
            ConfigurationError: the cluster can never hold the workers.
            EverymaskError: (possibly as the cause of Ray's error) as `inspect_model` and `Run.open`.
        """
        crew = self.inspected()
        configuration, facts = crew.configuration(config), crew.facts()
        this = Run.open("label", config, store, earlier, configuration, facts.device, facts.computes_in)
        batch_size = config.batch_size or (find_model(self.spec.model).gpu_batch_size if self.actors.gpus else 1)
        cost = CostLimit.of(config.max_cost, store, earlier.updates or store, self.actors.gpus)
        guard = Guard(config.store.max_errors, config.max_empty, cost)
        return Started(this, crew, batch_size, guard, Totals(self.actors.gpus))

    def inspected(self) -> Crew:
        """The same workers, with a model that every one must find. Raises as `start`."""
        if self.spec.expected is not None:
            return self
        check_schedulable(self.actors.demands(), nodes_of_the_launcher())
        machines = Machines(self.actors.worker)
        starting = f"starting a worker, which loads {self.spec.model}"
        with waiting(lambda: machines.beside(starting)):
            return replace(self, spec=replace(self.spec, expected=inspect_model(self.spec, self.actors, machines)))

    def facts(self) -> ModelFacts:
        """What an inspected crew found of its model."""
        assert self.spec.expected is not None
        return self.spec.expected

    def configuration(self, config: LabelDatasetConfig) -> dict[str, Any]:
        """The run's configuration by an inspected crew."""
        return run_configuration(config.input, self.spec.config, self.facts(), config.limits, config.sources)


@dataclass(frozen=True)
class Started:
    """A run whose model is known.

    Attributes:
        run: with an opened output.
        crew: with the model that every worker must find.
        batch_size: images encoded together.
        guard: watches the results.
        totals: sums them up.
    """

    run: Run
    crew: Crew
    batch_size: int
    guard: Guard
    totals: Totals

    def label(self, pending: Manifest, shard: int | None = None, tell: Tell | None = None) -> PartSummary:
        """Label the images of a list; returns what was added. Raises as `label_pending`."""
        if not pending.images:
            return PartSummary()
        run, crew = self.run, self.crew
        return label_pending(
            run.store,
            pending,
            crew.spec,
            run.record.config,
            crew.actors,
            self.batch_size,
            run.policy,
            self.guard,
            self.totals,
            shard,
            tell,
        )

    def close(self, expected: int | None, added: PartSummary) -> PartSummary:
        """Count, record and show the store's contents; as `Run.close`."""
        return self.run.close(expected, added, self.totals.summary())

    def close_as_foretold(self, expected: int | None, added: PartSummary) -> PartSummary:
        """As `close`; the last line holds an estimate that was made before against what happened."""
        seconds = self.run.seconds
        counts = self.close(expected, added)
        if added.images and (foretold := load_estimate(self.run.store)):
            print(foretold.compare(added.images, added.seconds, seconds), flush=True)
        return counts
