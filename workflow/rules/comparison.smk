rule compare:
    """Test 5: every method, and the truth as far as it can be had, on one network."""
    input:
        unpack(trained),
        modules=modules("compare", config["comparison"]["methods"]),
    output:
        table=f"{RESULTS}/comparison/{{ladder}}/{{network}}.csv",
    log:
        f"{RESULTS}/logs/comparison/{{ladder}}/{{network}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/comparison/{{ladder}}/{{network}}.tsv"
    priority: 20  # some take minutes: start early
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        described=lambda wildcards: COMPARED[wildcards.ladder][wildcards.network]["described"],
        size=lambda wildcards: COMPARED[wildcards.ladder][wildcards.network]["size"],
        directory=lambda wildcards: MNIST,
        seed=config["comparison"]["seed"],
        images=config["comparison"]["images"],
        bounds=config["comparison"]["methods"],
        norms=NORMS,
        seconds=lambda wildcards: config["comparison"][
            "seconds" if wildcards.ladder == "networks" else "ladder_seconds"
        ],
    script:
        "../scripts/compare.py"
