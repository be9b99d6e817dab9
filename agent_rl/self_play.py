"""Self-play: an episode of several seats becomes one trajectory per seat.

While it is played an episode is one list of turns, each with its seat. Afterwards every seat gets
the turns that it took, the contexts that it saw, the tokens that were sampled for it, and what it
earned. Seats are compared with seats (``Trajectory.comparison``): a baseline over both would take
the advantage of moving first for skill. This is the role-conditioned advantage estimation of Liu
et al. 2025 (arXiv:2506.24119), with the mean of the group's members in that seat where they keep a
moving average per game and role.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent_rl.engines import Engine
from agent_rl.errors import UserError
from agent_rl.trajectory import Trajectory, Turn
from rl_envs import TextEnv
from rl_envs.types import Message


def seats_of(env: TextEnv) -> int:
    """How many seats an environment has (``rl_envs.self_play``); 1 for an ordinary one."""
    return int(getattr(env, "seats", 1))


def refuse_group_verifier(env: TextEnv, name: str) -> None:
    """Stop where a verdict on whole episodes would stand for several seats.

    Raises:
        UserError: Its group verifier would have no effect on what each seat earns.
    """
    if seats_of(env) > 1 and env.group_verifier is not None:
        raise UserError(
            f"{name} has {seats_of(env)} seats and a group verifier, which cannot tell what each "
            "seat earned; leave the group verifier out, or give the environment an opponent"
        )


def trained_seats(seats: int, sample: int, *, frozen: bool) -> tuple[int, ...]:
    """The seats that the trained policy takes in an episode.

    Args:
        seats: How many there are.
        sample: Number of the episode within its group.
        frozen: Whether a frozen opponent takes the others; the members of a group then take the
            seats in turn. Otherwise the policy sits on all of them.
    """
    return (sample % seats,) if frozen and seats > 1 else tuple(range(seats))


def speaker(engine: Engine, opponent: Engine | None, env: TextEnv, episode: Trajectory) -> Engine:
    """Who speaks next: the policy, or the opponent where it is not one of the policy's seats."""
    if opponent is None:
        return engine
    mine = trained_seats(seats_of(env), episode.sample, frozen=True)
    return engine if episode.seat in mine else opponent


def seats_apart(
    episodes: Sequence[Trajectory], seats: Sequence[int], *, frozen: bool, mask_cut: bool
) -> list[Trajectory]:
    """The trained seats of every episode, those that are compared with one another together.

    Args:
        episodes: As played, in order.
        seats: How many seats each has; one with a single seat stays as it is.
        frozen: As in ``trained_seats``.
        mask_cut: As in ``by_seat``.
    """
    if all(count == 1 for count in seats):
        return list(episodes)
    apart: list[Trajectory] = []
    for episode, count in zip(episodes, seats, strict=True):
        mine = trained_seats(count, episode.sample, frozen=frozen)
        apart += [episode] if count == 1 else by_seat(episode, mine, mask_cut=mask_cut)
    return sorted(apart, key=lambda trajectory: trajectory.comparison)


def by_seat(
    episode: Trajectory, seats: Sequence[int], *, mask_cut: bool = False
) -> list[Trajectory]:
    """One trajectory for each of some seats that had a turn; for every one where we failed.

    What another seat's action earns a seat is added to that seat's own last action. What it earns
    before its first action, it had no part in: that is left out.

    Args:
        episode: All turns in time order, each with its seat and with what every seat earned; its
            own ``seat`` is the one whose turn would come next.
        seats: The seats that are wanted.
        mask_cut: An answer that was cut at the token limit leaves out the whole episode, for the
            other seat's reward came of it. Otherwise only the seat that was cut counts as cut.
    """
    cut = {turn.seat for turn in episode.turns if turn.finish_reason == "length"}
    out = []
    for seat in seats:
        turns, opening, answers = _view(episode, seat)
        if not turns and episode.error is None:
            continue
        trajectory = replace(episode, seat=seat, turns=turns, opening=opening, answers=answers)
        trajectory.cut = episode.cut and (mask_cut or seat in cut)
        trajectory.final_prompt_ids = _last_state(episode, turns, seat)
        if episode.scores:
            trajectory.score = episode.scores[seat]
        out.append(trajectory)
    return out


def _view(
    episode: Trajectory, seat: int
) -> tuple[list[Turn], tuple[Message, ...], list[tuple[Message, ...]]]:
    """A seat's turns with what they earned it, what it saw first, and what it saw after each."""
    places = [k for k, turn in enumerate(episode.turns) if turn.seat == seat]
    if not places:
        return [], (), []
    turns = []
    for place, following in zip(places, [*places[1:], len(episode.turns)], strict=True):
        rewards = [turn.rewards[seat] for turn in episode.turns[place:following] if turn.rewards]
        turns.append(replace(episode.turns[place], reward=sum(rewards)))
    seen = [episode.opening, *episode.answers]  # seen[k] is what the player of turn k was shown
    system = () if places[0] == 0 else tuple(m for m in episode.opening if m["role"] == "system")
    return turns, (*system, *seen[places[0]]), [seen[k] for k in places[1:]]


def _last_state(episode: Trajectory, turns: Sequence[Turn], seat: int) -> tuple[int, ...]:
    """Where a limit left a seat: before what it would have seen next, or after its last token."""
    if not episode.final_prompt_ids or not turns:
        return ()
    last = episode.turns[-1]
    after_last = episode.final_prompt_ids == last.prompt_ids + last.completion_ids
    if seat == (last.seat if after_last else episode.seat):
        return episode.final_prompt_ids
    return turns[-1].prompt_ids + turns[-1].completion_ids
