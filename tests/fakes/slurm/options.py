"""Words of a command line or of a batch script, as Slurm's programs take them."""

import os
import pwd

from fakes.slurm.store import signal_number

WITH_VALUE = set(
    "account array begin chdir clusters comment constraint cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline "
    "dependency distribution error exclude export gpu-bind gpu-freq gpus gpus-per-node gpus-per-task gres gres-flags hint "
    "input job-name kill-on-invalid-dep licenses mail-type mail-user mem mem-bind mem-per-cpu mem-per-gpu mincpus network "
    "nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode output "
    "partition priority profile qos reservation signal switches threads-per-core time time-min tmp uid wait-all-nodes wckey "
    "wrap".split()
)
FLAGS = set(
    "contiguous hold ignore-pbs no-kill no-requeue overcommit oversubscribe parsable quiet requeue spread-job".split()
)
OPTIONAL = {"exclusive": "user", "get-user-env": "", "nice": "100", "verbose": ""}
SHORT = {
    **{"A": "account", "a": "array", "D": "chdir", "M": "clusters", "C": "constraint", "c": "cpus-per-task"},
    **{"d": "dependency", "e": "error", "x": "exclude", "G": "gpus", "i": "input", "J": "job-name", "L": "licenses"},
    **{"m": "distribution", "w": "nodelist", "N": "nodes", "n": "ntasks", "o": "output", "p": "partition", "q": "qos"},
    **{
        "t": "time",
        "b": "begin",
        "F": "nodefile",
        "H": "hold",
        "k": "no-kill",
        "O": "overcommit",
        "s": "oversubscribe",
    },
    **{"Q": "quiet", "v": "verbose"},
}


class Refused(Exception):  # noqa: N818
    """What the program says, and its exit status."""

    def __init__(self, text, status=1):
        super().__init__(text)
        self.text, self.status = text, status


def options(words, program, values, flags, optional, short):
    """({option: value}, the remaining words)."""
    found, at = {}, 0
    while at < len(words):
        word = words[at]
        if word == "--" or word == "-" or not word.startswith("-"):
            return found, words[at + (word == "--") :]
        at += 1
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name in flags:
                found[name] = ""
                continue
            if name in optional:
                found[name] = value if equals else optional[name]
                continue
            if name not in values:
                raise Refused(
                    f"{program}: unrecognized option '{word}'\nTry \"{program} --help\" for more information", 255
                )
        else:
            name, value = short.get(word[1]), word[2:]
            if name is None:
                said = f"{program}: invalid option -- '{word[1]}'\nTry \"{program} --help\" for more information"
                raise Refused(said, 255)
            if name in flags or (name in optional and not value):
                found[name] = optional.get(name, "")
                if value:
                    words = [*words[:at], f"-{value}", *words[at:]]
                continue
            equals = bool(value)
        if not equals:
            if at >= len(words):
                raise Refused(f"{program}: option '--{name}' requires an argument", 255)
            value, at = words[at], at + 1
        found[name] = value
    return found, []


def script_options(text):
    """Words of the #SBATCH lines, which stand before the first command."""
    words = []
    for line in text.splitlines()[1:]:
        if line.startswith("#SBATCH"):
            words += _split(line[7:])
        elif line.strip() and not line.startswith("#"):
            break
    return words


def _split(line):
    """As a shell: quotes, backslashes, and a comment at the end."""
    words, word, quote, at = [], None, "", 0
    while at < len(line):
        letter = line[at]
        at += 1
        if quote:
            if letter == quote:
                quote = ""
            else:
                word += letter
        elif letter in "'\"":
            word, quote = word or "", letter
        elif letter == "\\" and at < len(line):
            word, at = (word or "") + line[at], at + 1
        elif letter.isspace():
            if word is not None:
                words.append(word)
            word = None
        elif letter == "#" and word is None:
            break
        else:
            word = (word or "") + letter
    return words if word is None else [*words, word]


def minutes(text):
    """Of 5, 5:30, 1:00:00, 1-12, 1-12:30 or 1-12:30:00; None is without limit."""
    if text.upper() in ("INFINITE", "UNLIMITED", "-1", "0"):
        return None
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, mins, seconds = [*parts, 0, 0][:3]
    else:
        hours, mins, seconds = {1: (0, *parts, 0), 2: (0, *parts), 3: tuple(parts)}[len(parts)]
    total = ((int(days) if dash else 0) * 24 + hours) * 60 + mins + seconds / 60
    return float(int(total) + (total > int(total)))


def warning(text):
    """(signal, whether to the batch script, seconds before the limit) of [B:]SIG[@seconds]."""
    name, _, seconds = text.partition("@")
    flags, colon, name = name.rpartition(":")
    number = signal_number(name)
    if number is None or (seconds and not seconds.isdigit()) or (colon and flags not in ("B", "R", "BR", "RB")):
        raise Refused("sbatch: error: Invalid --signal specification", 255)
    return number, "B" in flags, float(seconds or 60)


def user():
    return pwd.getpwuid(os.getuid()).pw_name
