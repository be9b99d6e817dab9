"""What the help of each command says at its end: examples, and where to read on."""

TRAIN_EPILOG = """settings are changed on the command line by their dotted name:
  agent-rl train configs/quickstart.yaml --stages.rl.steps 20 --run.seed 1
  agent-rl train configs/from_scratch.yaml --optimizer.lr=1e-4 --run.dir runs/second
  agent-rl train configs/smollm.yaml --envs.0.options.examples 2

a run that was stopped goes on with --resume; its folder holds config.yaml, metrics.jsonl,
rollouts/, checkpoints/, model/ (a transformers folder), summary.json and report.html.

every setting with its meaning and default: agent-rl settings rl   (or sft, dpo, ...)
how a configuration is written:             docs/configuration.md"""

EVAL_EPILOG = """examples:
  agent-rl eval --model.path models/m --env text/GSM8K-v0 --tasks 100 --samples 8
  agent-rl eval --model.path runs/run/model --env text/Countdown-v0 --out results/countdown

every setting with its meaning and default: agent-rl settings eval"""

OVEROPT_EPILOG = """settings are changed on the command line by their dotted name:
  agent-rl overopt configs/overopt.yaml --seeds '[0, 1, 2]' --run.dir runs/overopt3
  agent-rl overopt configs/overopt.yaml --kl_coefs '[0, 0.1, 1]' --labels '[500]'
the folder holds points.jsonl, overoptimization.png, summary.json and report.html, and a run folder
for every stage. One that was stopped goes on with --resume, also with more seeds or coefficients.

every setting with its meaning and default: agent-rl settings overopt
what is measured, and what it shows:        docs/overoptimization.md"""

PLAY_EPILOG = """type an answer and press Enter; a line that ends with \\ goes on in the next one.
where there are tools, /NAME ... is a call and /help lists them; a line without one ends it.
options of the environment are given by name; agent-rl envs ID lists them:
  agent-rl play text/Countdown-v0 --difficulty 2"""

SANDBOXES_EPILOG = """examples:
  agent-rl sandboxes
  agent-rl sandboxes --check local docker
  agent-rl sandboxes --check local --level landlock"""

SCORE_EPILOG = """INPUT is .jsonl, .csv or .json (each also .gz), .parquet, a folder of those or one
that save_to_disk wrote, a Hugging Face data set id, or - for JSON Lines on standard input.
NAME_OR_CONFIG is a verifier's name, an environment's id (its own verifier), a .yaml file that
combines verifiers, or file.py[:function]. Options of the verifier: --verifier.KEY VALUE.
  agent-rl score outputs.jsonl --verifier math --output scored.jsonl
  agent-rl score a.parquet b.parquet --verifier code --column completion=response -o all.parquet
  agent-rl score outputs.jsonl.gz --verifier text/GSM8K-v0 -o new.csv --group id --report r.html
  agent-rl score rows.jsonl --verifier math --verifier.strict false -o new.jsonl --compare old.jsonl
a job that was stopped, however hard, goes on when the same command is given again; the output
is the same as if it had not stopped. What the columns and figures mean: docs/scoring.md"""

VALIDATE_EPILOG = """other options are the environment's; for data, --verifier is as in score:
  agent-rl validate text/GSM8K-v0 --split test
  agent-rl validate rows.jsonl --verifier math --verifier.extract boxed --column answer=gold
leaves with 1 where a right completion fails, a wrong one passes or a row has no usable answer;
duplicates, contradictions and leaks are warnings. What is tried: docs/validate.md"""

SERVE_EPILOG = """other options are the back end's, as in --level landlock or --image NAME.
the token is read from a file, or from AGENT_RL_SANDBOX_TOKEN; without one it listens on a
loopback address only. SIGTERM drains: running jobs end, then it ends; a second one ends at once.
  agent-rl serve-sandbox --host 0.0.0.0 --token-file token.txt
how clients find it: docs/remote_sandbox.md"""

SERVE_VERIFIER_EPILOG = """other options are the verifier's, as in --verifier.strict false.
the token is read from a file, or from AGENT_RL_VERIFIER_TOKEN; without one it listens on a
loopback address only. SIGTERM drains: what was accepted is answered, then it ends.
  agent-rl serve-verifier --verifier math
  agent-rl serve-verifier --verifier code --host 0.0.0.0 --token-file token.txt
a verifier that waits (for a sandbox, a model) runs in this process; others in worker processes.
requests and answers: docs/serve_verifier.md"""

SERVE_ENV_EPILOG = """other options are the environment's, as in --difficulty 2.
the token is read from a file, or from AGENT_RL_ENV_TOKEN; without one it listens on a loopback
address only. SIGTERM drains: sessions that are there go on to their end; a second one ends them.
  agent-rl serve-env text/Countdown-v0
  agent-rl serve-env guess.py --host 0.0.0.0 --token-file token.txt
it speaks OpenEnv's protocol; how clients find it: docs/bridges.md"""

TOKENS_EPILOG = """other options are the environment's, as in play:
  agent-rl tokens text/Countdown-v0 --model tiny --difficulty 2
  agent-rl tokens text/Calculator-v0 --model models/m --policy model --html tokens.html
the expert's text is tokenized as a stand-in for sampled ids. The kinds: docs/tokens.md"""

LABEL_EPILOG = """INPUT holds pairs in any form that agent-rl preferences reads (their order is
forgotten), rows with prompt and a list completions, or several with one prompt and a completion.
  agent-rl label pairs.jsonl --output labels.jsonl --annotator ann
  agent-rl label samples.jsonl --output labels.jsonl --per-prompt 2
every choice is in the output before the next pair shows; the same command goes on where it ended.
the token is read from a file, or from AGENT_RL_LABEL_TOKEN; without one it listens on a loopback
address only. The page, its keys, and what is written: docs/preferences.md"""
