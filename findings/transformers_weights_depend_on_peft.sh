#!/bin/bash
# transformers 5.24.0, torch 2.13.0, peft 0.21.2: what HubertModel.from_pretrained makes of one and the same local folder
# with a whole model (config.json, model.safetensors) and a LoRA adapter beside it (as trainers leave it) depends on
# whether peft is installed. Without it the adapter is ignored; with it it is added, and the outputs are others; neither
# warns of it. Expected: the same model, or an error. Found: 0 tensors of LoRA without peft, 4 with it.
set -e
D=$(mktemp -d); trap 'rm -rf -- "$D"' EXIT; cd "$D"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q transformers==5.24.0 peft==0.21.2 numpy==2.4.6
cat > make.py <<'P'
import shutil

import torch
from peft import LoraConfig, get_peft_model
from transformers import HubertConfig, HubertModel

torch.manual_seed(0)
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
convolutions = {"conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
HubertModel(HubertConfig(**sizes, **convolutions)).save_pretrained("model")
tuned = get_peft_model(HubertModel.from_pretrained("model"), LoraConfig(r=2, target_modules=["v_proj"]))
for name, values in tuned.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(values.data, std=0.5)
tuned.save_pretrained("adapter")
for name in ("adapter_config.json", "adapter_model.safetensors"):
    shutil.copy(f"adapter/{name}", "model")
P
cat > load.py <<'P'
import json, warnings

import torch
from transformers import HubertModel

with warnings.catch_warnings(record=True) as told:
    model = HubertModel.from_pretrained("model").eval()
told = [str(line.message) for line in told if "adapter" in str(line.message).lower() or "lora" in str(line.message).lower()]
with torch.no_grad():
    frames = model(torch.sin(torch.arange(4000) / 9)[None]).last_hidden_state
lora = sum("lora" in name for name, _ in model.named_parameters())
print(json.dumps({"lora": lora, "told": told, "frames": frames.flatten()[:40].tolist()}))
P
export HF_HUB_OFFLINE=1
venv/bin/python make.py >/dev/null 2>&1
venv/bin/python load.py 2>with.err >with.json
venv/bin/pip uninstall -q -y peft
venv/bin/python load.py 2>without.err >without.json
venv/bin/python - <<'P'
import json, sys

have, lack = (json.load(open(f"{name}.json")) for name in ("with", "without"))
moved = max(abs(a - b) for a, b in zip(have["frames"], lack["frames"]))
said = [line for name in ("with", "without") for line in open(f"{name}.err") if "adapter" in line or "LoRA" in line]
print(f"with peft: {have['lora']} tensors of LoRA; without: {lack['lora']}; outputs differ by {moved:.2f}; told: {said}")
same = (have["lora"], lack["lora"]) == (4, 0) and moved > 0.01 and not (said or have["told"] or lack["told"])
sys.exit(0 if same else "this has changed")
P
