"""Installing and deleting models while the node runs, in LocalAI's shapes (shell)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace

from aiohttp import web

from localai.api.bodies import decode_body
from localai.api.external_url import external_url
from localai.api.operations import Operation
from localai.api.responses import json_response
from localai.api.routes.paths import add_route
from localai.api.schemas.model_jobs import (
    ApplyBody,
    AvailableModel,
    FileBody,
    GalleryBody,
    JobBody,
    JobCreated,
    OperationCancelled,
)
from localai.api.state import DATABASE, DISPATCH, SETTINGS
from localai.mesh.errors import InvalidRequest, NotFound, Unavailable
from localai.node.catalog_changes import with_last_good
from localai.node.dispatch import Dispatch, Phase
from localai.node.gallery.gallery_index import BUILT_IN, ApplyRequest, IndexEntry, parse_request
from localai.node.gallery.job_status import Job, shown_size
from localai.node.gallery.model_jobs import JobPlaces, ModelJobs
from localai.node.gallery.recipe import definition_filename
from localai.node.gallery.startup import usable_galleries
from localai.node.models_folder import read_catalog
from localai.node.settings import Settings
from localai.node.sharing.members_first import MembersFirst
from localai.node.sources.planning import source_rules

JOBS = web.AppKey("model_jobs", ModelJobs)
_CANCEL = Operation(answer=OperationCancelled, errors=(404,))
_MAX_BODY_BYTES = 1 << 20
_FAILED = "an error occurred"
"""All that a client is told of a failed job with ``--opaque-errors``; LocalAI says the same."""


def add_to(app: web.Application) -> None:
    """Register the paths of this file, before those of the models, and keep the jobs while the application runs."""
    if app[SETTINGS].entry_only:
        return
    app.cleanup_ctx.append(_keep_jobs)
    router = app.router
    add_route(router, "POST", "/models/apply", apply, Operation(body=ApplyBody, answer=JobCreated))
    add_route(router, "POST", "/models/delete/{model}", delete, Operation(answer=JobCreated))
    add_route(router, "GET", "/models/available", available, Operation(answer=list[AvailableModel]))
    add_route(router, "GET", "/models/galleries", galleries, Operation(answer=list[GalleryBody]))
    add_route(router, "GET", "/models/jobs", all_jobs, Operation(answer=dict[str, JobBody]))
    add_route(router, "GET", "/models/jobs/{id}", one_job, Operation(answer=JobBody, errors=(404,)))
    add_route(router, "POST", "/models/jobs/{id}/cancel", cancel, Operation(answer=JobBody, errors=(404,)))
    add_route(router, "POST", "/api/operations/{id}/cancel", cancel_operation, _CANCEL)


async def _keep_jobs(app: web.Application) -> AsyncIterator[None]:
    dispatch, settings = app[DISPATCH], app[SETTINGS]
    rules = source_rules(os.environ, scan=settings.install.scan)
    if settings.swarm is not None:
        rules = replace(rules, from_members=MembersFirst(lambda: dispatch.peers, settle_s=0.0).get)
    places = JobPlaces(
        settings.models_path,
        os.environ,
        usable_galleries(settings.install),
        rules,
    )
    app[JOBS] = jobs = ModelJobs(places, app[DATABASE], lambda: _reload(dispatch, settings))
    yield
    await jobs.aclose()


def _reload(dispatch: Dispatch, settings: Settings) -> None:
    if dispatch.phase is Phase.READY:
        found = read_catalog(settings.models_path, settings.models_config_file)
        dispatch.open(with_last_good(dispatch.catalog, found))


def begin_autoload(app: web.Application, name: str) -> Unavailable | None:
    """With ``--autoload-galleries``: begin to install a model that a request named and nobody has.

    The error tells the client to come back; None when nothing is begun, also after it has failed once.
    """
    jobs = app.get(JOBS)
    if jobs is None or not app[SETTINGS].install.autoload or not name:
        return None
    known = [job for job in jobs.all() if job.name == name and not job.deletion]
    if not known:
        jobs.apply(ApplyRequest(id=name))
    elif known[-1].is_finished:
        return None
    message = f"The model '{name[:100]}' is not here. A gallery is asked for it; try again soon."
    return Unavailable(message, code="model_installing", retry_after_s=5.0)


async def apply(http: web.Request) -> web.Response:
    """Begin an installation. What is wrong with it shows in the job."""
    data = await http.read()
    if len(data) > _MAX_BODY_BYTES:
        raise InvalidRequest("The request is longer than 1 MiB. Send less.", code="invalid_request")
    job = http.app[JOBS].apply(_request(decode_body(data, ApplyBody)))
    return json_response(_created(http, job))


async def delete(http: web.Request) -> web.Response:
    """Begin a deletion."""
    return json_response(_created(http, http.app[JOBS].delete(http.match_info["model"].rstrip("/"))))


async def available(http: web.Request) -> web.Response:
    """Everything that can be installed by name."""
    models_path = http.app[SETTINGS].models_path
    entries = await http.app[JOBS].available()
    return json_response(
        [_available(entry, (models_path / definition_filename(entry.name)).exists()) for entry in entries]
    )


async def galleries(http: web.Request) -> web.Response:
    """The galleries that are asked."""
    sources = http.app[JOBS].places.galleries
    return json_response([GalleryBody("", BUILT_IN), *(GalleryBody(each.url, each.name) for each in sources)])


async def all_jobs(http: web.Request) -> web.Response:
    """All jobs by their ids."""
    await http.app[JOBS].wait_loaded()
    return json_response({job.id: job_body(job, opaque=_opaque(http)) for job in http.app[JOBS].all()})


async def one_job(http: web.Request) -> web.Response:
    """One job."""
    await http.app[JOBS].wait_loaded()
    return json_response(job_body(_known(http.app[JOBS].find(http.match_info["id"])), opaque=_opaque(http)))


async def cancel(http: web.Request) -> web.Response:
    """End one job; get what it is now. A running one may still say so for a moment."""
    return json_response(job_body(await _cancelled(http), opaque=_opaque(http)))


async def cancel_operation(http: web.Request) -> web.Response:
    """The same by LocalAI's name for it."""
    await _cancelled(http)
    return json_response(OperationCancelled())


def job_body(job: Job, *, opaque: bool = False) -> JobBody:
    """A job as LocalAI shows it; ``opaque`` hides why one has failed."""
    hidden = opaque and bool(job.error)
    return JobBody(
        deletion=job.deletion,
        file_name=job.filename,
        error=_FAILED if hidden else job.error,
        processed=job.is_finished,
        message=_FAILED if hidden else job.message,
        progress=job.percent,
        phase=job.phase or job.state,
        current_bytes=job.done_bytes,
        total_bytes=job.total_bytes,
        file_size=shown_size(job.total_bytes) if job.total_bytes else "",
        downloaded_size=shown_size(job.done_bytes) if job.total_bytes else "",
        gallery_element_name=job.name,
        cancelled=job.state == "cancelled",
        cancellable=job.is_cancellable,
    )


async def _cancelled(http: web.Request) -> Job:
    jobs = http.app[JOBS]
    await jobs.wait_loaded()
    return _known(jobs.cancel(http.match_info["id"]))


def _known(job: Job | None) -> Job:
    if job is None:
        raise NotFound("There is no job with this id. GET /models/jobs lists all that are remembered.")
    return job


def _opaque(http: web.Request) -> bool:
    return http.app[SETTINGS].protection.opaque_errors


def _request(body: ApplyBody) -> ApplyRequest:
    files = [{"filename": file.filename, "sha256": file.sha256, "uri": file.uri} for file in body.files]
    fields = {"id": body.id, "url": body.url, "name": body.name, "overrides": body.overrides, "files": files}
    return parse_request({**fields, "config_file": body.config_file}, "The request")


def _created(http: web.Request, job: Job) -> JobCreated:
    return JobCreated(job.id, f"{external_url(http.headers, http.scheme, http.host)}/models/jobs/{job.id}")


def _available(entry: IndexEntry, installed: bool) -> AvailableModel:
    return AvailableModel(
        name=entry.name,
        gallery=GalleryBody(entry.gallery.url, entry.gallery.name),
        url=entry.url,
        description=entry.description,
        license=entry.licence,
        icon=entry.icon,
        urls=list(entry.urls),
        tags=list(entry.tags),
        files=[FileBody(file.filename, file.sha256 or "", file.uri) for file in entry.files],
        size=entry.size,
        installed=installed,
    )
