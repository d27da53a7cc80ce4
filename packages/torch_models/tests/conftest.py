import os

# Before the first kernel: some virtual machines advertise AMX and then fault on its instructions.
# Only bfloat16 on a CPU would use them, which is asked for in one test and nowhere by default.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
