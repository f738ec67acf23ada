#!/bin/bash
# hydra-core 1.3.8: a multirun over a range without values, as `a=range(3,0)` (bounds the wrong way round), is no error.
# Hydra prints "Launching 0 jobs locally" and ends with status 0; values listed beside it, as `b=1,2`, are not run either.
# A script that checks the status goes on as if all runs were done.
# Expected: an error that names the range, or a status other than 0. Found: status 0, and no job.
set -e
D=$(mktemp -d); trap 'rm -rf -- "$D"' EXIT; cd "$D"
python3 -m venv venv
venv/bin/pip install -q hydra-core==1.3.8 omegaconf==2.3.1
cat > app.py <<'P'
import hydra


@hydra.main(version_base=None, config_path=None)
def main(cfg):
    print("a job ran")


main()
P
for range in 'range(3,0)' 'range(0,3)'; do
  status=0
  venv/bin/python app.py --multirun "+a=$range" '+b=1,2' hydra/job_logging=none hydra/hydra_logging=none > out.txt || status=$?
  echo "hydra-core 1.3.8: a=$range b=1,2: $(grep -c 'a job ran' out.txt || true) jobs, status $status" | tee -a said.txt
done
printf 'hydra-core 1.3.8: a=range(3,0) b=1,2: 0 jobs, status 0\nhydra-core 1.3.8: a=range(0,3) b=1,2: 6 jobs, status 0\n' |
  cmp -s - said.txt || { echo "this has changed"; exit 1; }
