rule bounds_random:
    """Test 3: all bounds of the networks of one distribution and depth, at all widths."""
    input:
        modules=modules("bounds_random", BOUNDS),
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
        depth=lambda wildcards: int(wildcards.depth),
        widths=config["random"]["widths"],
        samples=config["random"]["samples"],
        seed=config["random"]["seed"],
        enumerated_neurons=by_norm(config["random"]["enumerated_neurons"]),
        options=config["random"]["options"],
        limits={
            bound: {**limit, "neurons": by_norm(limit.get("neurons", {}))}
            for bound, limit in config["random"]["limits"].items()
        },
        bounds=BOUNDS,
        norms=NORMS,
    script:
        "../scripts/bounds_random.py"
