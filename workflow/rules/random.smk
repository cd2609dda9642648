rule bounds_random:
    """Test 3: all bounds of the networks of one distribution and depth, at all widths."""
    input:
        modules=MODULES["bounds_random"],
    output:
        table=f"{RESULTS}/random/{{distribution}}_depth{{depth}}.csv",
    log:
        f"{RESULTS}/logs/random/{{distribution}}_depth{{depth}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/random/{{distribution}}_depth{{depth}}.tsv"
    priority: lambda wildcards: int(wildcards.depth)  # the longest jobs first
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        widths=config["random"]["widths"],
        samples=config["random"]["samples"],
        seed=config["random"]["seed"],
        seqlip_budget=config["random"]["seqlip_budget"],
        enumerated_neurons={
            norm: config["random"]["enumerated_neurons_l2" if norm == 2 else "enumerated_neurons"]
            for norm in NORMS
        },
        k5_samples=config["random"]["k5_samples"],
        k5_neurons={
            norm: config["random"]["k5_neurons_l2" if norm == 2 else "k5_neurons"]
            for norm in NORMS
        },
        bounds=BOUNDS,
        norms=NORMS,
    script:
        "../scripts/bounds_random.py"
