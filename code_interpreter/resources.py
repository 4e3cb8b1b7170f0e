"""E2B's other classes, at home on the host of this machine if nothing says otherwise."""

from __future__ import annotations

from typing import Self, Unpack

import e2b
from e2b import ApiParams, VolumeApiParams, VolumeConnectionConfig

from code_interpreter.embedded import EmbeddedByDefault, place


class Template(EmbeddedByDefault, e2b.Template):
    """E2B's template builder."""


class AsyncTemplate(EmbeddedByDefault, e2b.AsyncTemplate):
    """E2B's template builder, for asyncio."""


class Secret(EmbeddedByDefault, e2b.Secret):
    """E2B's secrets."""


class AsyncSecret(EmbeddedByDefault, e2b.AsyncSecret):
    """E2B's secrets, for asyncio."""


class _VolumeContent:
    """Sends what a volume holds to the host that made it."""

    _content_url: str | None = None

    def _get_volume_config(self, **opts: Unpack[VolumeApiParams]) -> VolumeConnectionConfig:
        if self._content_url and not opts.get("api_url") and not opts.get("domain"):
            opts["api_url"] = self._content_url
        config: VolumeConnectionConfig = super()._get_volume_config(**opts)  # type: ignore[misc]
        return config


class Volume(EmbeddedByDefault, _VolumeContent, e2b.Volume):
    """E2B's volumes."""

    @classmethod
    def create(cls, name: str, **opts: Unpack[ApiParams]) -> Self:
        volume = super().create(name, **opts)
        volume._content_url = place(cls._bound_api_params, opts)
        return volume

    @classmethod
    def connect(cls, volume_id: str, **opts: Unpack[ApiParams]) -> Self:
        volume = super().connect(volume_id, **opts)
        volume._content_url = place(cls._bound_api_params, opts)
        return volume


class AsyncVolume(EmbeddedByDefault, _VolumeContent, e2b.AsyncVolume):
    """E2B's volumes, for asyncio."""

    @classmethod
    async def create(cls, name: str, **opts: Unpack[ApiParams]) -> Self:
        volume = await super().create(name, **opts)
        volume._content_url = place(cls._bound_api_params, opts)
        return volume

    @classmethod
    async def connect(cls, volume_id: str, **opts: Unpack[ApiParams]) -> Self:
        volume = await super().connect(volume_id, **opts)
        volume._content_url = place(cls._bound_api_params, opts)
        return volume
