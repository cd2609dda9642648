# One rule for each experiment, since a caption's path knows no wildcards.
for test, experiment in EXPERIMENTS.items():

    rule:
        name:
            f"figures_{test}"
        input:
            table=table_of(test),
            modules=modules("figures"),
        output:
            png=[
                report(
                    f"{RESULTS}/figures/{figure}.png",
                    caption=f"../report/{figure}.rst",
                    category=experiment.title,
                    labels={"what": f"figure: {subject}"},
                )
                for figure, subject in experiment.figures.items()
            ],
            pdf=expand(f"{RESULTS}/figures/{{figure}}.pdf", figure=experiment.figures),
        log:
            f"{RESULTS}/logs/figures/{test}.log",
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=1000,
        params:
            drawn=drawn(test),
        script:
            "../scripts/figures.py"


rule figures:
    """All figures again, from the tables as they are; only a table that is missing is made.

    Without outputs it runs whenever it is asked for; and as the tables that exist are no inputs,
    nothing is computed, even where code or configuration have changed.
    """
    input:
        lambda wildcards: [t for t in map(table_of, EXPERIMENTS) if not Path(t).exists()],
    log:
        f"{RESULTS}/logs/figures/all.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        drawn=drawn(*EXPERIMENTS),
    script:
        "../scripts/figures.py"
