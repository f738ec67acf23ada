"""How many cores a process may use: its affinity, its container's quota, and what the user says."""

import os

import pytest

from emoshare.core.cores import cgroup_quota, usable_cores


def tree(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"cpu.max": "400000 100000", "a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2.0),
        ("0::/a\n", {"a/cpu.max": "max 100000"}, None),
        ("4:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "300000", "cpu/x/cpu.cfs_period_us": "100000"}, 3.0),
        ("4:cpu:/\n5:memory:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/gone\n", {}, None),
    ],
)
def test_a_containers_quota(tmp_path, own, files, quota):
    own_file = tree(tmp_path, {"own": own}) / "own"
    assert cgroup_quota(tree(tmp_path / "root", files), own_file) == quota
    assert cgroup_quota(tmp_path, tmp_path / "none") is None


def test_the_least_limit_counts(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for quota, cores in ((None, 8), (2.6, 3), (0.2, 1), (64.0, 8)):
        monkeypatch.setattr("emoshare.core.cores.cgroup_quota", lambda *_, quota=quota: quota)
        assert usable_cores() == cores
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert usable_cores() == 2
