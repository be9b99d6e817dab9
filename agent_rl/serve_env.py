"""``agent-rl serve-env``: an environment for others, by OpenEnv's protocol."""

from __future__ import annotations

import argparse

from agent_rl.errors import UserError
from agent_rl.overrides import override_tree
from agent_rl.serving import announce, check_bounds, ended, read_token, version

TOKEN_VARIABLE = "AGENT_RL_ENV_TOKEN"


def serve_env(arguments: argparse.Namespace) -> int:
    """Serve until told to end; the arguments are those of the command line.

    Returns:
        0 after draining, 1 where sessions were given up.

    Raises:
        UserError: An option that cannot be; what to give instead.
        DataError: No such environment or option.
        SandboxError: The address is taken.
    """
    try:
        import websockets  # noqa: F401, PLC0415

        from rl_sandboxes.serving import check_address, listen, run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UserError(f"serve-env needs {error.name}: pip install 'agent-rl[serve]'") from None
    import rl_envs  # noqa: PLC0415
    from rl_envs.bridges.openenv_server import EnvServerOptions, EnvService  # noqa: PLC0415

    bounds = {"port": (0, 65_535), "max_sessions": (1, 65_536), "max_body_mb": (1, 1024)}
    check_bounds(arguments, bounds, seconds=("timeout_s", "idle_timeout_s"))
    token = read_token(arguments.token_file, TOKEN_VARIABLE)
    check_address(arguments.host, token, variable=TOKEN_VARIABLE)
    env = rl_envs.make(arguments.env, **override_tree(arguments.overrides))
    env.prepare()
    _ = env.tasks  # shared by every session; better now than at the first
    options = EnvServerOptions(
        max_sessions=arguments.max_sessions,
        idle_timeout_s=arguments.idle_timeout_s,
        timeout_s=arguments.timeout_s,
        max_body_mb=arguments.max_body_mb,
    )
    with listen(arguments.host, arguments.port) as listener:
        port = listener.getsockname()[1]
        status = run(
            lambda: EnvService(env, arguments.env, options, token, version()),
            listener,
            started=lambda: announce(
                arguments, port, "env", arguments.env, has_token=token is not None
            ),
            max_message_bytes=arguments.max_body_mb << 20,
        )
    return ended(status)
